ln -s ../shared src/shared
ln -s ../shared/library.py src/library.py
