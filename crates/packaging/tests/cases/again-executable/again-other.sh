chmod +x src/run.sh
