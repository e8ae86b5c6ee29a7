"""The words of every concept, and the words that are noise."""

from __future__ import annotations

# The order matters: the first n concepts are a mixture of places, conditions and subjects for
# every n. A name is followed by its synonyms: plural and near words, and other languages.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "beach": ("beaches", "playa", "strand", "plage", "spiaggia", "sand", "seaside"),
    "flower": ("flowers", "flor", "blume", "fleur", "fiore", "blossom", "bloom"),
    "city": ("ciudad", "stadt", "ville", "skyline", "buildings", "urban", "street"),
    "cat": ("cats", "kitten", "gato", "katze", "chat", "gatto", "feline"),
    "forest": ("trees", "bosque", "wald", "foret", "woods", "woodland", "bosco"),
    "sunset": ("sundown", "atardecer", "sonnenuntergang", "coucherdesoleil", "tramonto", "dusk"),
    "people": ("portrait", "gente", "leute", "gens", "face", "friends", "person"),
    "mountain": ("mountains", "montana", "berge", "montagne", "peak", "hiking", "alps"),
    "car": ("cars", "auto", "coche", "voiture", "automobile", "vehicle", "classiccar"),
    "sea": ("ocean", "mar", "meer", "mer", "mare", "waves", "water"),
    "bird": ("birds", "pajaro", "vogel", "oiseau", "uccello", "wings", "feathers"),
    "snow": ("nieve", "schnee", "neige", "neve", "winter", "snowing", "cold"),
    "food": ("comida", "essen", "cibo", "dinner", "delicious", "yummy", "dessert"),
    "night": ("noche", "nacht", "nuit", "notte", "nighttime", "dark", "longexposure"),
    "boat": ("boats", "barco", "schiff", "bateau", "barca", "ship", "sailing"),
    "dog": ("dogs", "puppy", "perro", "hund", "chien", "cane", "doggie"),
}

# Words that name two concepts: alone they do not show which one is meant.
POLYSEMES: dict[str, tuple[str, str]] = {
    "orange": ("sunset", "food"),
    "gold": ("sunset", "beach"),
    "jaguar": ("car", "cat"),
    "rose": ("flower", "people"),
    "iris": ("flower", "people"),
    "daisy": ("flower", "dog"),
    "model": ("car", "people"),
    "rock": ("mountain", "people"),
    "crane": ("bird", "city"),
    "duck": ("bird", "food"),
    "bark": ("dog", "forest"),
    "palm": ("beach", "forest"),
    "coast": ("beach", "sea"),
    "blue": ("sea", "night"),
    "ice": ("snow", "food"),
    "white": ("snow", "cat"),
    "star": ("night", "people"),
    "lights": ("night", "city"),
    "port": ("boat", "city"),
    "yacht": ("boat", "sea"),
    "slope": ("snow", "mountain"),
    "beetle": ("car", "forest"),
    "robin": ("bird", "people"),
    "husky": ("dog", "snow"),
}

# A photo has one camera, one year and one place; the rest is praise, groups and occasions. The
# earlier words of a list are the more frequent ones.
CAMERAS: tuple[tuple[str, ...], ...] = (
    ("nikon", "d80", "nikond80", "d200"),
    ("canon", "eos", "400d", "5d"),
    ("sony", "cybershot"),
    ("olympus", "e500"),
    ("film", "35mm", "lomo"),
    ("polaroid", "sx70"),
)
YEARS = ("2007", "2008", "2006", "2005")
LOCATIONS = ("california", "london", "italy", "japan", "france", "canada", "usa", "spain", "berlin")
PRAISE = (
    "explore",
    "abigfave",
    "interestingness",
    "geotagged",
    "photo",
    "impressedbeauty",
    "i500",
    "anawesomeshot",
    "365days",
    "digital",
    "art",
    "flickr",
    "supershot",
    "favorites",
    "vacation",
    "me",
    "photoshop",
    "top20",
    "hdr",
    "happy",
)
