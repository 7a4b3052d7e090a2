// Times are kept in UTC and shown in the reader's own zone; the UTC time stays in the tooltip.
export function tell(part) {
  for (const element of part.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    element.title = `${element.dateTime} (UTC)`;
    element.textContent = moment.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  }
}

tell(document);
