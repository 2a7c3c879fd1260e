"""What every room uses: errors, options, randomness, files, devices, progress."""
