// The table is fetched anew while somebody looks at it.
import { tell } from "./times.js";

const PERIOD_MS = 2000;
const table = document.querySelector("#sites");

async function follow() {
  try {
    const answer = await fetch("/api/sites");
    if (answer.status === 401) location.assign("/login");
    if (answer.ok) {
      table.innerHTML = await answer.text();
      tell(table);
    }
  } catch {
    // the next round asks again
  }
  setTimeout(follow, PERIOD_MS);
}

follow();
