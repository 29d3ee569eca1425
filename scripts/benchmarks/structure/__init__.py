"""The house itself: sizes, import order, seconds of an import, on any checkout. Tests enforce what is counted here."""
