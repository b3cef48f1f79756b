mkdir -p "s r c/ä/日本語"
for name in "a b" "it's" '"quoted"' '100%' '#hash' 'a&b' 'a;b' '[x]' '{y}' '~' 'naïve' '🙂' '-dash' '...'; do
  echo "$name" > "s r c/ä/$name"
done
echo deep > "s r c/ä/日本語/ファイル.txt"
