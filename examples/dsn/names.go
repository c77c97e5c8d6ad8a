package dsn

import (
	"errors"
	"io/fs"
	"net"
	"regexp"
	"strings"
)

// hostName matches the names of hosts, and paths of sockets, which begin with / or @.
var hostName = regexp.MustCompile(`^([\p{L}\p{N}_.-]*|[/@][\w./@-]*|[A-Za-z]:[\w./\\-]*)$`)

// checkNames refuses a user, a database or a host that is more than a name: parts of
// the DSN, also the password, have got into it. A host that passes may be in errors.
func checkNames(user, database string, hosts ...string) error {
	const fix = "want postgres://user:password@host:port/database or mysql://..., with special characters of the password percent-encoded"
	switch {
	case strings.ContainsAny(user, ";="):
		return malformed("has a user with ; or =: " + fix)
	case strings.ContainsAny(database, ";=@/,&?"):
		return malformed("has a database with one of ; = @ / , & ?: " + fix)
	}
	for _, host := range hosts {
		if address, _, _ := strings.Cut(host, "%"); !hostName.MatchString(host) && net.ParseIP(address) == nil {
			return malformed("has a host that is not the name or address of one: " + fix)
		}
	}
	return nil
}

// cause returns the error of a file without its path.
func cause(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file.Err
	}
	return err
}
