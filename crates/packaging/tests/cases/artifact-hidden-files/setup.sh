mkdir -p src/__pycache__
printf x > src/__pycache__/app.cpython-313.pyc
