mkdir -p node_modules/left
echo 'module.exports = 1' > node_modules/left/index.js
mkdir -p .git/objects .aws-sam/cache .aws-sam/build/It
echo 'ref: refs/heads/main' > .git/HEAD
echo cached > .aws-sam/cache/cached.txt
echo built > .aws-sam/build/It/built.txt
