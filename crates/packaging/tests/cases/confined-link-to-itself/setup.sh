ln -s itself src/itself
