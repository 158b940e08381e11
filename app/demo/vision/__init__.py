"""How the demo vision model was made: drawn pictures and phrases in, the files of `model/` out."""
