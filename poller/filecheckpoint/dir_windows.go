package filecheckpoint

// Windows cannot sync a directory. NTFS journals its names, in order, so after
// a power cut the latest of them may be gone but none out of order.
func syncDir(string) error { return nil }
