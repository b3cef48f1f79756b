mkfifo src/pipe
