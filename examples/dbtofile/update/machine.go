package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// machine is the machine that dbtofile runs on: systemd, processes, and what they
// say of themselves. The tests put a model of one in its place.
type machine interface {
	// show returns the state of a unit.
	show(ctx context.Context, unit string) (unitState, error)
	// restart restarts a unit, or starts it. It need not wait until that is done.
	restart(ctx context.Context, unit string) error
	// status asks a running dbtofile how it does.
	status(ctx context.Context, url string) (status, error)
	// try runs a binary without any rights, and returns the version that it says it is.
	try(ctx context.Context, path string) (string, error)
}

// unitState is what systemd knows of a unit.
type unitState struct {
	Active     string // active, inactive, failed, activating, deactivating
	Sub        string // in more words: running, auto-restart, ...
	PID        int    // 0: no process
	Exe        string // the file that the process really runs, without links
	Invocation string // another one for each start
	Restarts   int    // by systemd itself
	Job        bool   // something is about to be done with it
}

// dead reports whether a unit that should run does not, or is started again and again.
func (s unitState) dead() bool {
	return s.Active == "failed" || s.Sub == "auto-restart" || s.Active == "activating" && s.Restarts > 0
}

// stopped reports whether a unit is meant not to run. That takes a unit with
// Restart=always: then one whose process ends by itself is never inactive.
func (s unitState) stopped() bool { return s.Active == "inactive" && !s.Job }

// status is what dbtofile answers to GET /status, as far as it matters here.
type status struct {
	Version   string    `json:"version"`
	Now       time.Time `json:"now"` // by the clock of the times below
	Live      bool      `json:"live"`
	Ready     bool      `json:"ready"`
	Pipelines []struct {
		Name     string    `json:"name"`
		Words    string    `json:"words"`
		Live     bool      `json:"live"`
		Ready    bool      `json:"ready"`
		Attempts int       `json:"attempts"` // failed in a row
		LastPoll time.Time `json:"last_poll"`
		Interval float64   `json:"interval_seconds"`
	} `json:"pipelines"`
}

// failing reports whether a pipeline fails, and tries again.
func (s status) failing() bool {
	for _, p := range s.Pipelines {
		if p.Attempts > 0 {
			return true
		}
	}
	return false
}

// well returns an error that says what is not well.
func (s status) well() error {
	if len(s.Pipelines) == 0 {
		return errors.New("it has no pipeline")
	}
	for _, p := range s.Pipelines {
		if !p.Live || !p.Ready || p.Attempts > 0 {
			return fmt.Errorf("pipeline %s is not well: %s", p.Name, p.Words)
		}
	}
	if !s.Live || !s.Ready {
		return errors.New("it is not ready")
	}
	return nil
}

// systemd is the machine that the program runs on.
type systemd struct{ client http.Client }

const patience = 10 * time.Second // for answers that take no time

// command returns what a command prints. Its environment is empty but for PATH.
func command(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.WaitDelay = time.Second
	return output(c)
}

func output(c *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

func (systemd) show(ctx context.Context, unit string) (unitState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := command(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,MainPID,InvocationID,NRestarts,Job", "--", unit)
	if err != nil {
		return unitState{}, err
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}
	s := unitState{Active: values["ActiveState"], Sub: values["SubState"], Invocation: values["InvocationID"]}
	s.Job = values["Job"] != "" && values["Job"] != "0"
	// Masking is how an administrator stops one for good.
	if is := values["LoadState"]; is != "loaded" && (is != "masked" || !s.stopped()) {
		return unitState{}, fmt.Errorf("unit %s is %s", unit, is)
	}
	s.PID, _ = strconv.Atoi(values["MainPID"])
	s.Restarts, _ = strconv.Atoi(values["NRestarts"])
	if s.PID != 0 {
		exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(s.PID), "exe"))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may just have ended
			return unitState{}, fmt.Errorf("which file does unit %s run? %w", unit, err)
		}
		s.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	return s, nil
}

func (systemd) restart(ctx context.Context, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A release that crashes may have used up all the starts that systemd allows, so
	// that is reset. It is one process that does both, for a unit that had failed and
	// was only reset would look like one that is stopped.
	_, err := command(ctx, "sh", "-c", `systemctl reset-failed -- "$1" && exec systemctl restart --no-block -- "$1"`, "sh", unit)
	return err
}

func (m systemd) status(ctx context.Context, url string) (s status, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/status", nil)
	if err != nil {
		return s, err
	}
	response, err := m.client.Do(request)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return s, fmt.Errorf("GET %s: %s", request.URL.Redacted(), response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&s); err != nil {
		return s, fmt.Errorf("GET %s: %w", request.URL.Redacted(), err)
	}
	return s, nil
}

func (systemd) try(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := exec.CommandContext(ctx, path, "-version")
	c.Env, c.Dir, c.WaitDelay = []string{}, "/", time.Second
	unprivileged(c)
	text, err := output(c)
	if err != nil {
		return "", err
	}
	if fields := strings.Fields(text); len(fields) > 1 && fields[0] == "dbtofile" {
		return fields[1], nil
	}
	return "", fmt.Errorf("%s -version does not print a version of dbtofile", path)
}
