name=$(printf '%.0sx' $(seq 200))
mkdir -p "src/$name/$name/$name/$name/$name/$name"
touch "src/$name/$name/$name/$name/$name/$name/app.py"
