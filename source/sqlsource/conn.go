package sqlsource

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// withConn calls f with one connection for all of its statements: a ceiling holds for the
// server that it was found on. If the connection is dead, or dies, f is called again with another
// one, as database/sql does for single statements: f only reads, and all of the pool may be dead.
// pgx also calls a connection dead that it is asked to use when ctx has ended, and then the pool
// returns that error.
func (q *query) withConn(ctx context.Context, f func(ceiling.Queryer) error) error {
	if q.conn != nil {
		return q.inSession(ctx, q.conn, f)
	}
	for left := q.db.Stats().Idle + 2; ; left-- {
		conn, err := q.db.DB.Conn(ctx)
		dead := errors.Is(err, driver.ErrBadConn)
		if err == nil {
			if err = q.usable(conn); err == nil {
				if err = q.inSession(ctx, conn, f); err == nil {
					err = q.usable(conn) // of the first use, only now it is known which file that is
				}
			}
			dead = errors.Is(err, driver.ErrBadConn) || err != nil && ctx.Err() == nil && conn.PingContext(ctx) != nil
			conn.Close() // gives it back to the pool, or adds nothing
		}
		if !dead || left == 0 {
			return err
		}
	}
}

// inSession calls f with a connection as the dialect uses it. After an error the dialect is asked
// again, because the next connection may lead to another server, or to a pooler.
func (q *query) inSession(ctx context.Context, conn *sql.Conn, f func(ceiling.Queryer) error) (err error) {
	defer func() {
		if err != nil {
			q.session = nil
		}
	}()
	if q.session == nil {
		table := q.table
		if q.where != "" || q.selected {
			table = nil
		}
		if q.session, err = q.sql.Session(ctx, conn, q.rows, table); err != nil {
			return q.wrap(err, nil)
		}
	}
	db, restore, err := q.session(ctx, conn)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return q.wrap(err, nil)
	}
	return f(db)
}

// fileID identifies a file as long as it exists. It is empty without a file, or if the system does not say.
func fileID(path string) string {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return ""
	}
	v := reflect.Indirect(reflect.ValueOf(info.Sys()))
	if v.Kind() != reflect.Struct || !v.FieldByName("Ino").IsValid() {
		return ""
	}
	return fmt.Sprint(v.FieldByName("Dev"), " ", v.FieldByName("Ino"))
}

// pathTo returns the path in the data source name that leads to the file of a database, "" if the pool's
// connector has no such text. The database itself names the file that symbolic links led to, and does
// not see when they lead to another one.
func pathTo(file string, db *sql.DB) string {
	connector := reflect.ValueOf(db).Elem().FieldByName("connector")
	if id := fileID(file); id != "" && connector.Kind() == reflect.Interface {
		fields := reflect.Indirect(connector.Elem())
		for i := 0; fields.Kind() == reflect.Struct && i < fields.NumField(); i++ {
			text := ""
			if fields.Field(i).Kind() == reflect.String {
				text = fields.Field(i).String()
			}
			path, _, _ := strings.Cut(text, "?")
			if u, err := url.Parse(text); err == nil && u.Scheme == "file" {
				path, _ = url.PathUnescape(cmp.Or(u.Opaque, u.EscapedPath()))
			}
			if fileID(path) == id {
				return path
			}
		}
	}
	return ""
}

// errFileGone says that a database's file is not there any more.
var errFileGone = errors.New("the database's file is not at its path any more, and rows that are written to a new file there would not be seen")

// current returns driver.ErrBadConn, so that the connection is closed, if the file that it has
// opened is not the one at its path. Such a connection finds nothing new, without an error. So does
// one that was idle when the file was replaced, and is used here for the first time.
func (s *state) current(conn *sql.Conn) error {
	if s.marks.File == "" {
		return nil
	}
	now := fileID(s.marks.File)
	if now != "" && now != s.file {
		if s.file != "" {
			s.distrust = s.query.db.Stats().Idle + 1
		}
		s.file = now
	}
	return conn.Raw(func(c any) error {
		before, known := s.files[c]
		switch {
		case before != "" && now == "":
			return s.query.wrap(errFileGone, nil)
		case known && before != now || !known && s.distrust > 0:
			delete(s.files, c)
			s.distrust--
			s.window, s.marked = nil, time.Time{}
			return driver.ErrBadConn
		case s.files == nil || len(s.files) > 2*s.query.db.Stats().OpenConnections+8: // some were closed
			s.files = map[any]string{}
		}
		s.files[c] = now
		return nil
	})
}
