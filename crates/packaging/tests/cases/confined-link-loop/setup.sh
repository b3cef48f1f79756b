ln -s . src/again
