mkdir layer
truncate -s 536870913 layer/model.bin
