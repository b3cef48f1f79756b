touch -d '1975-01-01 00:00:00' src/app.py
