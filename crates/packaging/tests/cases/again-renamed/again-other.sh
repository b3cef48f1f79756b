mv src/run.sh src/start.sh
