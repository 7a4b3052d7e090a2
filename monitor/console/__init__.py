"""The operator's pages: look, label, teach, judge, go back."""
