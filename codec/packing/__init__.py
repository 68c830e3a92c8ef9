"""Data sets as tar shards of .lcb files: encoded once, by one machine or many, read for ever after.

layout    what lies in the folder; all that reading needs
sources   which files, what they are called, which classes they belong to
encoding  one file becomes the members of a sample
pool, cluster  who does that: processes here, or Ray
shards    writing that survives its writer
run       what is left to do, done, in order
"""
