# What the reader of a page has and an empty folder lacks; pages name these functions in their "before" comments.

# shops NAME ...: synthetic shops with text embeddings
shops() {
    local seed=0 name
    for name in "$@"; do
        seed=$((seed + 1))
        mmm4rec prep demo --name "$name" --seed "$seed" && mmm4rec prep embed "$name"
    done
}

# tables: orders.csv, products.csv and pictures/ of a shop, with a column category
tables() {
    mmm4rec prep demo --name source --seed 9
    python - <<'PYTHON'
import shutil
from pathlib import Path
import pandas as pd

def read(end):
    return pd.read_csv(f"dataset/source/source.{end}", sep="\t").rename(columns=lambda name: name.partition(":")[0])

orders, products = read("inter"), read("item")
kinds = products.text.str.extract(r"\b(pouch|case|cover|bag|box|label|holder|mat|set|stand)\b")[0]
pictures = Path("pictures")
pictures.mkdir(exist_ok=True)
for item, file in zip(products.item_id, products.image):
    shutil.copy(f"dataset/source/images/{file}", pictures / f"{item}.png")
orders.to_csv("orders.csv", index=False)
products.assign(category=kinds)[["item_id", "text", "category"]].to_csv("products.csv", index=False)
orders = orders.assign(timestamp=orders.timestamp * 1000)
orders.set_axis(["customer", "sku", "ts"], axis=1).to_parquet("sales.parquet")
products = products[["item_id", "text"]].assign(picture_url="a.jpg").set_axis(["sku", "title", "picture_url"], axis=1)
products.to_json("products.jsonl.gz", orient="records", lines=True)
items = orders.sort_values("timestamp").groupby("user_id").item_id.agg(" ".join).rename("item_ids")
items.to_csv("sequences.tsv.gz", sep="\t")
pd.read_csv("products.csv").to_csv("items.tsv.gz", sep="\t", index=False)
PYTHON
    rm -r dataset/source
}

# vectors SHOP: files of vectors for its items
vectors() {
    python - "$1" <<'PYTHON'
import sys
import numpy as np, pandas as pd

items = pd.read_csv(f"dataset/{sys.argv[1]}/{sys.argv[1]}.item", sep="\t")["item_id:token"]
table = np.random.default_rng(0).normal(size=(len(items), 8)).astype("float32")
pd.DataFrame({"item_id": items, "vector": list(table)}).to_parquet("mine.parquet")
np.save("text_feat.npy", table)
np.save("image_feat.npy", table)
pd.DataFrame({"id": items, "row": range(len(items))}).to_csv("i_id_mapping.csv", sep="\t", index=False)
PYTHON
}

# dumps NAME: small files of Amazon's kind, as they are called for a category, and no data set of another source
dumps() {
    python - "$1" <<'PYTHON'
import gzip
import shutil
import sys
from pathlib import Path
import benchmarks

sys.path += benchmarks.__path__
from prepare_amazon import make_files

make_files(Path.cwd(), 3000)
for made, name in (("reviews", sys.argv[1]), ("meta", f"meta_{sys.argv[1]}")):
    with open(f"{made}.json", "rb") as plain, gzip.open(f"{name}.json.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
shutil.rmtree("dataset/scientific")
PYTHON
}
