"""How good is what is deployed: conditions, episodes, baselines, figures. Needs no torch."""
