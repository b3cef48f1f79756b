mkdir -p src/empty
