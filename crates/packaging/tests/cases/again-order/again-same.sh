mv src old
mkdir -p src/package
cp -p old/run.sh src/run.sh
cp -p old/package/__init__.py src/package/__init__.py
cp -p old/app.py src/app.py
rm -r old
