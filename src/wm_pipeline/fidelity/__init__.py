"""How true the dream is: the same measures of games and of dreams."""
