find . -exec touch -d '2020-02-02 02:02:02' {} +
