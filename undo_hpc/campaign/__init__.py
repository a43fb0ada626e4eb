"""Arms x seeds: one file says what is compared, equal work is done once, and a page says what can be concluded."""
