for level in 1 2 3 4 5 6 7 8 9 10 11; do
  sed "s/child-1.yaml/child-$((level + 1)).yaml/" template.yaml > "child-$level.yaml"
done
