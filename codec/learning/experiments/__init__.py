"""Reference experiments: what learning on bitstreams gives, against pixels and samples at equal compute and bytes.

    python -m codec.learning.experiments classify DATA -o out/      # photographs in folders of classes
    python -m codec.learning.experiments --help

Each is one command and ends in a table; see the module of that name for what is compared and how.
"""
