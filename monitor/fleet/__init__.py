"""Class sets for many sites: signed releases, a site that takes them, and a roll-out that tries them on one first."""
