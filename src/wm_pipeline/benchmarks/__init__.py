"""How fast controllers, searches and dreams run, beside the limit of the machine."""
