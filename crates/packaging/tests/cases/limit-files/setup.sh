mkdir layer
cd layer
seq 50001 | xargs touch
