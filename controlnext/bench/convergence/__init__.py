"""How many steps a training needs until the control works, against other ways of adding it."""
