mkdir -p src/empty/within
