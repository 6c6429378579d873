"""What ``tools/predict.py`` writes: a line for each image, files for each image, and files of all images."""
