"""Where Amazon's public files of 2018 are, what is known of them, and what is published of the sets made of them.

Addresses: nijianmo.github.io/amazon, and dataset/README.md of github.com/AlwaysFHao/MMM4Rec. SHA-256 of the ratings: a
loader of OmniRec (omnirec.data_loaders, class Amazon2018); their sizes are not known to us. Of the metadata no hash is
known (they are gzip files, which carry a checksum), and two sizes: those that data/raw/download_manifest.json of
github.com/wujiahao257/minionerec notes, whose author found the server's Content-Length to be the same. Users and items
of the five sets: VQ-Rec (arXiv 2210.12316), MISSRec's reference logs; those of the sources of pre-training: UniSRec
(arXiv 2206.05941), table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"


@dataclass(frozen=True)
class PublicFile:
    """A file to fetch.

    Attributes:
        path: behind :data:`BASE`.
        sha256: of its bytes, or None where nobody has told us.
        bytes: how many, or None where nobody has told us.
        option: by which the command takes such a file of one's own.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    option: str = "--reviews"

    @property
    def name(self) -> str:
        """Its name in a folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class PublicSet:
    """A data set of the papers.

    Attributes:
        name: as ``--download`` calls it.
        category: as Amazon's files call it.
        ratings_sha256: of the file of ratings.
        users, items: of the published set.
        metadata_bytes: of the file of metadata, or None.
    """

    name: str
    category: str
    ratings_sha256: str
    users: int
    items: int
    metadata_bytes: int | None = None

    @property
    def ratings(self) -> PublicFile:
        """item, user, rating, timestamp."""
        return PublicFile(f"categoryFilesSmall/{self.category}.csv", self.ratings_sha256)

    @property
    def metadata(self) -> PublicFile:
        """Titles, brands, addresses of pictures."""
        return PublicFile(f"metaFiles2/meta_{self.category}.json.gz", None, self.metadata_bytes, "--meta")


SETS = {
    one.name: one
    for one in (
        PublicSet(
            "scientific",
            "Industrial_and_Scientific",
            "29e194947309c1a0e81f0f9646fd6f63959949dbd807ea327e07074f35376a30",
            8_442,
            4_385,
            83_745_299,
        ),
        PublicSet(
            "pantry",
            "Prime_Pantry",
            "ed55b1f239c4ec3402fdd15a603a4b84210177678c36c01db59487a8fddf685c",
            13_101,
            4_898,
        ),
        PublicSet(
            "instruments",
            "Musical_Instruments",
            "8933b17434e4984bcce8cf4ec43d847e0af6aa6d46add28bbb37b80e06da1b06",
            24_962,
            9_964,
        ),
        PublicSet(
            "arts",
            "Arts_Crafts_and_Sewing",
            "ab42ec44840c130b8bcb1993bad37021b5ff98f3aae55a120c2a0d0624be3be5",
            45_486,
            21_019,
        ),
        PublicSet(
            "office",
            "Office_Products",
            "2e24f3df092efc71fa4dea41162c7c1ab2d46bc53c4cace63794a3a66dc6d82f",
            87_346,
            25_986,
            514_243_589,
        ),
        PublicSet(
            "food",
            "Grocery_and_Gourmet_Food",
            "9652d130382a3f1fcbfffffcaf3b8474e2649be034fbea8b0281b78424b65d40",
            115_349,
            39_670,
        ),
        PublicSet(
            "home",
            "Home_and_Kitchen",
            "618e6c4493bcdd147a2bf3015bc0835dfedbc03570fba7d89335d9cd360069eb",
            731_913,
            185_552,
        ),
        PublicSet(
            "cds",
            "CDs_and_Vinyl",
            "daedcfb79310479728f11cc1e66d49ec6dccdec124222391bf6f4f69ca5092db",
            94_010,
            64_439,
        ),
        PublicSet(
            "kindle",
            "Kindle_Store",
            "f2fac32f72f51857f164c2c1671db141f06b2649608ebf1af2efba02a2fb219b",
            138_436,
            98_111,
        ),
        PublicSet(
            "movies",
            "Movies_and_TV",
            "c7a6ca7769a34fd0d335e1cd25e359c18a8fcd474515f8b62986297e35b5fc4f",
            281_700,
            59_203,
        ),
    )
}
"""The five sets of the papers, then the five that they pre-train on."""
