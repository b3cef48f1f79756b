truncate -s 200M src/model.bin
truncate -s 62144000 src/more.bin
