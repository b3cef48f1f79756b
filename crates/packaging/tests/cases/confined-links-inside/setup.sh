ln -s ../parts src/parts
ln -s ../parts/library.py src/library.py
