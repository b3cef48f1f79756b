ln -s nowhere src/link
