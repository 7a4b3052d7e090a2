"""From situations to traffic control: messages, journal, publisher."""
