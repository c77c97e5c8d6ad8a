package dsn

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// sqliteFile opens an existing file. The file must be writable, which WAL mode
// requires, but query_only prevents changes. After three slashes frameworks write a
// path from the working directory, and others one from the root.
func sqliteFile(path string) (target, error) {
	path, err := existing(path)
	if err != nil {
		return target{}, err
	}
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	return target{sqlite: "file:" + u.EscapedPath() + "?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(on)"}, nil
}

// encrypted matches the parameters with a key.
var encrypted = regexp.MustCompile(`(?i)(^|[=_&?])(hex|text)?key[(=]|vfs=`)

// existing returns the path of the file that is meant.
func existing(path string) (string, error) {
	if path == "" {
		return "", malformed("has no path: want sqlite:PATH")
	}
	if _, err := os.Stat(path); err == nil && !strings.HasPrefix(path, "//") {
		return path, nil
	}
	name, query, _ := strings.Cut(path, "?")
	if encrypted.MatchString(query) {
		return "", malformed("asks for an encrypted SQLite database, which cannot be read")
	}
	found := map[string]bool{}
	for _, candidate := range []string{strings.TrimPrefix(name, "///"), strings.TrimPrefix(name, "//")} {
		if candidate == name && strings.HasPrefix(name, "//") {
			continue
		}
		if _, err := os.Stat(candidate); err == nil {
			found[filepath.Clean(candidate)] = true
		}
	}
	switch len(found) {
	case 0:
		_, err := os.Stat(strings.TrimPrefix(name, "//"))
		return "", fmt.Errorf("the database file of the DSN: %w: check the path and the permissions", err)
	case 1:
		for only := range found {
			return only, nil
		}
	}
	return "", malformed("has a path after three slashes that exists from the root and from the working directory: use sqlite:PATH")
}
