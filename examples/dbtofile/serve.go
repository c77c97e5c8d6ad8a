package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/artifactofdevotion/devotion/examples/webconfig"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/poller/status"
)

// serve serves the status page and the metrics of a pipeline until stop is called.
func serve(c config, hooks *poller.Hooks, health func() poller.Status, log *slog.Logger) (stop func(), err error) {
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w: choose an address of this machine and a free port above 1023, or stop the program that uses it", err)
	}
	log.Info("listening", "address", listener.Addr().String())
	return serveOn(listener, pages(hooks, health), c.webConfig, log), nil
}

func serveOn(listener net.Listener, handler http.Handler, webConfig string, log *slog.Logger) (stop func()) {
	server := status.NewServer(handler)
	server.ErrorLog = stdlog.New(webconfig.Log{Logger: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}, "", 0)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		flags := &web.FlagConfig{WebConfigFile: &webConfig}
		if err := web.Serve(listener, server, flags, slog.New(slog.DiscardHandler)); !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close() // so that probes notice
			server.ErrorLog.Print(webconfig.Text(err))
		}
	}()
	return func() {
		// Answers in progress get a moment. A client that hangs does not delay the stop.
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-ended
	}
}

// pages returns the handler of everything that -listen serves. None of it
// changes anything or waits for the pipeline.
func pages(hooks *poller.Hooks, health func() poller.Status) http.Handler {
	page := &status.Page{Version: version()}
	page.Attach(hooks, health)
	metrics := prometheus.New()
	metrics.Version = version()
	metrics.Attach(hooks, health)
	registry := prom.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	mux := http.NewServeMux()
	mux.Handle("GET /", page) // and HEAD
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// listenAddress completes the address to listen on. Without a host it is only
// reachable from this machine.
func listenAddress(text string) (string, error) {
	full := text
	if !strings.Contains(full, ":") { // only a port
		full = ":" + full
	}
	host, port, err := net.SplitHostPort(full)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", wrong("-listen is %q: want a port, such as :9464, or an address and a port, such as 0.0.0.0:9464 or [::1]:9464", text)
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port), nil
}
