touch "$(printf 'src/caf\351.txt')"
