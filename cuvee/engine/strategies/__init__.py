"""How the next runs are chosen, by name: the default and its peers behind one interface."""
