"""Why every commission is what it is: as data, in plain words, and checked to add up. Pure: no database, no clock."""
