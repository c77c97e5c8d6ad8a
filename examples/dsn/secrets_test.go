package dsn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
)

// mixedUp are DSNs whose secret stands where a host, a user, a database, a path or a
// parameter belongs, as after a mistake in writing them. The password is hunter2 with
// something around it.
var mixedUp = []string{
	// Separators of ADO, PDO and JDBC
	"host=127.0.0.1;port=1;dbname=shop;user=ada;password=hunter2",
	"user=ada;password=hunter2;host=127.0.0.1",
	"dbname=shop;user=ada;password=hunter2;host=127.0.0.1",
	"password=hunter2;user=ada;host=127.0.0.1",
	"Host=127.0.0.1;Username=ada;Password=hunter2;Database=shop",
	"Host=127.0.0.1; Port=1; User ID=ada; Password=hunter2",
	"Server=127.0.0.1;Database=shop;User Id=ada;Password=hunter2;",
	"Data Source=127.0.0.1;User ID=ada;Password=hunter2",
	"host=127.0.0.1 user=ada,password=hunter2",
	"host=127.0.0.1,user=ada,password=hunter2",
	"host=127.0.0.1&user=ada&password=hunter2",
	"host=127.0.0.1 port=1 user=ada;pwd=hunter2",
	"host=127.0.0.1 port=1 user=ada:hunter2 dbname=a;hunter2",
	"host=127.0.0.1 port=1 user=ada dbname=shop;hunter2",
	"host=127.0.0.1 port=1 user=ada dbname=shop,hunter2",
	"host=127.0.0.1 port=1 user=ada dbname=shop@hunter2",
	"host=ada:hunter2@127.0.0.1 port=1",
	"host=ada/hunter2@127.0.0.1 port=1",
	"host=127.0.0.1 port=1hunter2 user=ada",
	"host=127.0.0.1 port=1 Password=hunter2",
	"host=127.0.0.1 port=1 user=ada pass=hunter2",
	"host=127.0.0.1 port=1 user=ada password= x hunter2=1",
	"host=127.0.0.1 port=1 user=ada sslmode=hunter2",
	"host=127.0.0.1 port=1 sslrootcert=/ca.pem,password=hunter2 sslmode=verify-full",
	"host=/run/pg;password=hunter2 user=ada",
	"pgsql:host=127.0.0.1;port=1;dbname=shop;user=ada;password=hunter2",
	"mysql:host=127.0.0.1;port=1;dbname=shop;user=ada;password=hunter2",
	// A URL with special characters in the password, or with the parts in disorder
	"postgres://ada:123/hunter2@127.0.0.1/shop",
	"postgres://ada:1/x/hunter2@127.0.0.1/shop",
	"postgres://ada:1?hunter2@127.0.0.1/shop",
	"postgres://ada:1#hunter2@127.0.0.1/shop",
	"postgres://ada@hunter2@127.0.0.1:1/shop",
	"postgres://ada;hunter2@127.0.0.1:1/shop",
	"postgres://hunter2@127.0.0.1:1/shop",
	"postgres://127.0.0.1;user=ada;password=hunter2",
	"postgres://127.0.0.1:1/shop;user=ada;password=hunter2",
	"postgres://127.0.0.1:1/shop,hunter2",
	"postgres://127.0.0.1:1/shop&password=hunter2",
	"postgres://127.0.0.1:1/shop?user=ada;password=hunter2",
	"postgres://127.0.0.1:1/shop?user=ada&pass=hunter2",
	"postgres://127.0.0.1:1/shop?user=ada&password=x&Hunter2-y",
	"postgres://127.0.0.1:1/ada:hunter2@shop",
	"postgres://127.0.0.1,hunter2=x/shop",
	"postgres://ada:x@127.0.0.1:1/shop?sslmode=hunter2",
	"postgres://ada:x@127.0.0.1:1/shop?ssl=hunter2",
	"postgres://ada:x@127.0.0.1:1/shop?sslrootcert=hunter2&sslmode=verify-ca",
	"jdbc:postgresql://127.0.0.1:1/shop;user=ada;password=hunter2",
	"jdbc:postgresql://127.0.0.1:1/shop?user=ada&password=x&hunter2",
	"jdbc:postgresql:ada/hunter2@//127.0.0.1:1/shop",
	"mysql://ada:123/hunter2@127.0.0.1/shop",
	"mysql://ada:1?hunter2@127.0.0.1/shop",
	"mysql://ada:1?Hunter-2@127.0.0.1/shop?a=hunter2",
	"mysql://127.0.0.1;user=ada;password=hunter2",
	"mysql://127.0.0.1:1/shop;user=ada;password=hunter2",
	"mysql://(host=127.0.0.1,port=1,user=ada,password=hunter2)/shop",
	"mysql://ada:x@127.0.0.1:1/shop?ssl-ca=/ca.pem,password=hunter2",
	"mysql://ada:x@127.0.0.1:1/shop?ssl-mode=hunter2",
	"mysql://ada:x@127.0.0.1:1/shop?hunter2=1",
	"jdbc:mysql://127.0.0.1:1/shop?user=ada&password=x&Hunter2-y",
	"jdbc:mysql://127.0.0.1:1/shop?user=ada&Hunter2-y",
	"jdbc:mariadb://address=(host=127.0.0.1)(user=ada)(password=hunter2)/shop",
	"jdbc:mysql:loadbalance://ada:hunter2@127.0.0.1:1/shop",
	"ada@hunter2@tcp(127.0.0.1:1)/shop",
	"ada/hunter2@tcp(127.0.0.1:1)/shop",
	"ada@tcp(127.0.0.1;password=hunter2)/shop",
	"ada@tcp(127.0.0.1:hunter2)/shop",
	"ada@tcp(127.0.0.1:1)/shop;password=hunter2",
	"ada@unix(/run/no.sock;password=hunter2)/shop",
	"ada@unix(/run/no.sock:hunter2)/shop",
	"ada@hunter2(127.0.0.1:1)/shop",
	"ada:hunter2@127.0.0.1:1/shop",
	// SQLite
	"sqlite:/nope.db;Password=hunter2",
	"sqlite:nope.db,password=hunter2",
	"sqlite:nope.db&key=hunter2",
	"sqlite:nope.db#hunter2",
	"sqlite:nope.db hunter2",
	"sqlite:nope.db:hunter2",
	"sqlite:nope.db?password=hunter2",
	"sqlite:nope.db?_key=hunter2",
	"jdbc:sqlite:/nope.db;password=hunter2",
	"file:nope.db?cipher=hunter2",
	"sqlite:///ada:hunter2@nope.db",
	"sqlite://ada@hunter2/nope.db",
	"Data Source=nope.db;Password=hunter2",
}

// No part of a DSN in which a secret may be is in an error, neither of the DSN nor of
// the connect.
func TestSecretsInTheWrongPlace(t *testing.T) {
	t.Parallel()
	for _, text := range mixedUp {
		for _, text := range []string{text, `"` + text + `"`, "DATABASE_URL=" + text} {
			err := firstError(t, text)
			require.Error(t, err, text)
			hidden(t, err, text)
		}
	}
}

// firstError opens the database and connects.
func firstError(t *testing.T, text string) error {
	t.Helper()
	db, err := Open(always(text))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return db.PingContext(ctx)
}

// hidden fails if an error, or one that it wraps, contains the password.
func hidden(t *testing.T, err error, text string) {
	t.Helper()
	assert.NotContains(t, strings.ToLower(retry.Text(err)), secret, text)
	for ; err != nil; err = errors.Unwrap(err) {
		shown := strings.ToLower(fmt.Sprintf("%v %+v", err, err))
		assert.NotContains(t, shown, secret, text)
		decoded, _ := url.QueryUnescape(shown)
		assert.NotContains(t, decoded, secret, text)
	}
}
