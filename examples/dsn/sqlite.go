package dsn

import (
	"cmp"
	"errors"
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

// credentials matches a user and a password, as in the URL of a server.
var credentials = regexp.MustCompile(`^/*[^/@:]*:[^@]*@`)

// shownPath matches the paths that an error may contain. Others may be followed by a
// password, as in shop.db;password=...
var shownPath = regexp.MustCompile(`^([A-Za-z]:)?[\p{L}\p{N}_./\\-]*$`)

// existing returns the path of the file that is meant: as it is, or without parameters.
func existing(path string) (string, error) {
	if path == "" {
		return "", malformed("has no path: want sqlite:PATH")
	}
	name, query, _ := strings.Cut(path, "?")
	var failed error
	for i, path := range []string{path, name} {
		if i > 0 && encrypted.MatchString(query) {
			return "", malformed("asks for an encrypted SQLite database, which cannot be read")
		}
		found, err := oneOf(meanings(path))
		if err == nil || errors.Is(err, ErrMalformed) {
			return found, err
		}
		failed = err
	}
	if credentials.MatchString(name) {
		return "", malformed("has a user, which a SQLite database does not have: want sqlite:PATH")
	}
	if !shownPath.MatchString(name) {
		failed = cause(failed)
	}
	return "", fmt.Errorf("the database file of the DSN: %w: check the path and the permissions", failed)
}

// meanings returns what a path can mean, by its slashes.
func meanings(path string) []string {
	name := strings.TrimLeft(path, "/")
	switch slashes := len(path) - len(name); {
	case slashes < 2:
		return []string{path}
	case slashes < 4:
		return []string{"/" + name, name}
	}
	return []string{"/" + name}
}

// oneOf returns the path that exists.
func oneOf(paths []string) (string, error) {
	var found []string
	var failed error
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		} else {
			failed = cmp.Or(failed, err)
		}
	}
	switch len(found) {
	case 0:
		return "", failed
	case 1:
		return found[0], nil
	}
	return "", malformed("has a path after slashes that exists from the root and from the working directory: use sqlite:PATH")
}
