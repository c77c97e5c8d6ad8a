//go:build linux

package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// canary is a password that must be escaped in URLs. Its middle must not be printed in any
// form, and is in no hexadecimal number.
const (
	middle = "Zwqx47"
	canary = `Can@ry/` + middle + `%"x`
)

var escapedCanary = url.QueryEscape(canary)

// leaks returns the form in which the canary is in a text, or nothing.
func leaks(text string) string {
	for _, form := range []string{
		middle, canary, url.QueryEscape(canary), url.PathEscape(canary), url.UserPassword("", canary).String(),
		base64.StdEncoding.EncodeToString([]byte(canary))[:12], hex.EncodeToString([]byte(middle)),
	} {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

// dsnForms returns forms of a data source name with the canary as its password: of this
// program, of providers and of other programs; valid ones and broken ones. The host is
// at: nothing answers there, or a rogue server.
func dsnForms(at string) (forms []string) {
	escaped, host, port := url.QueryEscape(canary), "", ""
	host, port, _ = strings.Cut(at, ":")
	for _, scheme := range strings.Fields(`postgres postgresql mysql mariadb postgresql+psycopg2 postgresql+asyncpg postgres+ssl mysql+pymysql mysql2 mariadb+mariadbconnector
		pgx cockroachdb redshift jdbc:postgresql jdbc:mysql jdbc:mariadb mssql oracle mongodb`) {
		forms = append(forms, scheme+"://ada:"+escaped+"@"+at+"/shop")
	}
	for _, options := range []string{
		"?sslmode=require", "?sslmode=perhaps", "?ssl-mode=REQUIRED", "?connect_timeout=x", "?sslrootcert=/nosuchfile&sslmode=verify-full", "?tls=perhaps", "?parseTime=perhaps",
		"?schema=public&connection_limit=5", "?charset=utf8mb4&reconnect=true", "?options=-c%20search_path%3Dx", "?password=" + escaped, "?pgbouncer=true#" + escaped,
	} {
		forms = append(forms, "postgres://ada:"+escaped+"@"+at+"/shop"+options, "mysql://ada:"+escaped+"@"+at+"/shop"+options)
	}
	return append(forms,
		"ada:"+canary+"@tcp("+at+")/shop", "ada:"+canary+"@("+at+")/shop", "ada:"+canary+"@tcp("+at, "ada:"+canary+"@"+at, "mysql://ada:"+canary+"@tcp("+at+")/shop",
		"postgres://ada:"+canary+"@"+at+"/shop", "mysql://ada:"+canary+"@"+at+"/shop", // not escaped
		"host="+host+" port="+port+" user=ada password='"+canary+"' dbname=shop", "host="+host+" port="+port+" user=ada password="+canary,
		"Server="+host+";Port="+port+";User Id=ada;Password="+canary+";Database=shop",
		`"postgres://ada:`+escaped+"@"+at+`/shop"`, "'mysql://ada:"+escaped+"@"+at+"/shop'", "\ufeffpostgres://ada:"+escaped+"@"+at+"/shop",
		"DATABASE_URL=postgres://ada:"+escaped+"@"+at+"/shop", "export DSN=mysql://ada:"+escaped+"@"+at+"/shop",
		"postgres://ada:"+escaped+"@"+at+":port/shop", "postgres:ada:"+escaped+"@"+at+"/shop", "postgres//ada:"+escaped+"@"+at+"/shop",
		canary, "ada:"+canary,
	)
}

// The password of a data source name appears nowhere, whatever its form, by which way it is
// given, and whether the program ends or is made to print its goroutines.
func TestCanaryInDSN(t *testing.T) {
	t.Parallel()
	forms := dsnForms("127.0.0.1:1")
	require.Greater(t, len(forms), 55)
	showsNone(t, "a password in a data source name", forms)
}

// The path of a SQLite file may have a key, too.
func TestCanaryInSQLiteDSN(t *testing.T) {
	t.Parallel()
	escaped := url.QueryEscape(canary)
	showsNone(t, "a key in the path of a SQLite file", []string{
		"sqlite:/nosuchdirectory/x.db?_pragma=key(" + escaped + ")", "sqlite:///nosuchdirectory/x.db?key=" + escaped, "sqlite:file:/nosuchdirectory/x.db?_pragma=key('" + canary + "')",
		"sqlite://ada:" + escaped + "@127.0.0.1:1/shop",
	})
}

// showsNone gives each form by each way.
func showsNone(t *testing.T, name string, forms []string) {
	t.Helper()
	step := 1
	if !whole() {
		step = 9
	}
	s := newSecrets(t, name, fmt.Sprintf("%d forms, by -dsn, -dsn-file and the environment; a program that waits is ended by SIGQUIT, which prints its goroutines", len(forms)))
	for i := turn() % step; i < len(forms); i += step {
		file := filepath.Join(t.TempDir(), "dsn")
		require.NoError(t, os.WriteFile(file, []byte(forms[i]), 0o600))
		for _, way := range [][]string{{"-dsn=" + forms[i]}, {"-dsn-file=" + file}, nil} {
			dir := filepath.Join(t.TempDir(), "out")
			args := append(way, "-table", "items", "-key", "id", "-out", dir, "-log-level", "debug")
			text, code := untilItFails(t, "DBTOFILE_DSN="+forms[i], way == nil, args)
			found, _ := exec.Command("grep", "-r", middle, dir).Output()
			s.see(text+string(found), code, "form %d", i)
		}
	}
}

// untilItFails runs the program until it ends, or until it says that it waits. Then it gets SIGQUIT.
func untilItFails(t *testing.T, variable string, useVariable bool, args []string) (text string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), dbtofile(t), args...)
	cmd.Env = os.Environ()
	if useVariable {
		cmd.Env = append(cmd.Env, variable)
	}
	return untilItSays(cmd, "failing", syscall.SIGQUIT)
}

// untilItSays runs a command, and sends it a signal when it has printed a text.
func untilItSays(cmd *exec.Cmd, part string, s syscall.Signal) (text string, code int) {
	var all bytes.Buffer
	quit := &onText{part: part, then: func() { _ = cmd.Process.Signal(s) }}
	cmd.Stdout, cmd.Stderr = &all, quit
	_ = cmd.Run()
	return all.String() + quit.all.String(), codeOf(cmd)
}

// onText calls a function once a text has been written.
type onText struct {
	all  bytes.Buffer
	part string
	then func()
	done bool
}

func (o *onText) Write(text []byte) (int, error) {
	n, err := o.all.Write(text)
	if !o.done && strings.Contains(o.all.String(), o.part) {
		o.done = true
		o.then()
	}
	return n, err
}

// secrets fills a row with what runs of the program print.
type secrets struct {
	t       *testing.T
	r       *row
	codes   map[int]int
	printed int
}

func newSecrets(t *testing.T, name, how string) *secrets {
	return &secrets{t: t, r: results.row(t, fault{part: "secrets", name: name, how: how}, "dbtofile"), codes: map[int]int{}}
}

// see requires that the canary is not in what a run printed.
func (s *secrets) see(text string, code int, of string, args ...any) {
	s.t.Helper()
	form := leaks(text)
	if form != "" {
		s.printed++
	}
	assert.Empty(s.t, form, "%s: %s", fmt.Sprintf(of, args...), text)
	s.codes[code]++
	s.r.times++
	s.r.note, s.r.exit = fmt.Sprintf("printed by %d of %d runs", s.printed, s.r.times), byCode(s.codes)
}

// byCode lists exit codes and how often each was returned.
func byCode(codes map[int]int) string {
	var list []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		list = append(list, fmt.Sprintf("%d x %d", code, codes[code]))
	}
	return strings.Join(list, ", ")
}

// A server that is not authenticated yet, or that lies, sends the password back, and text
// that is meant for the log.
func TestRogueServers(t *testing.T) {
	t.Parallel()
	s := newSecrets(t, "rogue servers", "a server asks for the password in the clear and sends it back in its error, or answers with noise")
	for name, rogue := range map[string]func(net.Conn){"Postgres": roguePostgres, "MariaDB": rogueMariaDB, "noise": rogueNoise} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(10 * time.Second))
					rogue(c)
				}()
			}
		}()
		for _, scheme := range []string{"postgres", "mysql"} {
			for _, options := range []string{"", "?sslmode=disable", "?allowCleartextPasswords=true"} {
				dsn := scheme + "://ada:" + url.QueryEscape(canary) + "@" + listener.Addr().String() + "/shop" + options
				text, code := untilItFails(t, "DBTOFILE_DSN="+dsn, true, []string{"-table", "items", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-log-level", "debug"})
				s.see(text, code, "%s, %s%s", name, scheme, options)
			}
		}
	}
}

// roguePostgres asks for the password in the clear, and sends it back.
func roguePostgres(c net.Conn) {
	buffer := make([]byte, 4096)
	if n, err := c.Read(buffer); err == nil && n == 8 { // a request for TLS
		_, _ = c.Write([]byte("N"))
		_, _ = c.Read(buffer)
	}
	_, _ = c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3})
	n, _ := c.Read(buffer)
	got := string(bytes.Trim(buffer[min(5, n):n], "\x00"))
	body := "SFATAL\x00VFATAL\x00C28P01\x00Mthe password is " + got + "\x00Dpassword=" + got + "\x00H" + got + "\x00\x00"
	_, _ = c.Write(append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(body))), body...))
}

// rogueMariaDB asks for the password in the clear, and sends it back.
func rogueMariaDB(c net.Conn) {
	packet := func(n byte, body string) {
		_, _ = c.Write(append([]byte{byte(len(body)), byte(len(body) >> 8), 0, n}, body...))
	}
	packet(0, "\x0a10.11.0\x00\x01\x00\x00\x0012345678\x00\xff\xf7\x21\x02\x00\xff\x81\x15"+strings.Repeat("\x00", 10)+"123456789012\x00mysql_native_password\x00")
	buffer := make([]byte, 4096)
	_, _ = c.Read(buffer)
	packet(2, "\xfemysql_clear_password\x00")
	n, _ := c.Read(buffer)
	got := string(bytes.Trim(buffer[min(4, n):n], "\x00"))
	packet(4, "\xff\x15\x04#28000the password is "+got)
}

func rogueNoise(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("\x00\xffE"+middle+"\n"), 1000)) }

// A wrong password that a real server refuses is not shown.
func TestCanaryAtARealServer(t *testing.T) {
	t.Parallel()
	s := newSecrets(t, "a wrong password", "Postgres and MariaDB refuse it")
	for _, e := range servers {
		database := e.shared(t).NewDatabase(t)
		for _, user := range []string{"dbtest", "nobody"} {
			dsn := e.dsn(database.WithUser(user, canary))
			if e.name == mariadb.name {
				dsn = strings.TrimPrefix(dsn, "mysql://")
			}
			r := run(t, []string{"DBTOFILE_DSN=" + dsn}, "-table", "items", "-key", "id", "-out", filepath.Join(t.TempDir(), "out"), "-once", "-log-level", "debug")
			s.see(r.text, r.code, "%s as %s", e.name, user)
			assert.Equal(t, 1, r.code, r.text)
		}
	}
}
