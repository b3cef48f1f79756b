printf 'key=value\n' > src/settings.ini
chmod 600 src/settings.ini
