chmod 640 src/app.py
chmod 700 src/package
