python3 - <<'END'
import random
numbers = random.Random(1)
with open("src/model.bin", "wb") as model:
    model.write(numbers.randbytes(9_000_000))
END
