python3 - <<'END'
import zipfile
with zipfile.ZipFile("app.pyz", "w") as archive:
    archive.writestr(zipfile.ZipInfo("app.py"), "def handler(event, context):\n    return 1\n")
END
