// A server of net/http with cloudflare/tableflip: the program of its documentation, with keep-alive connections that are shut down.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	text, err := os.ReadFile(os.Getenv("VERSION_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	version := strings.TrimSpace(string(text))

	upgrader, err := tableflip.New(tableflip.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer upgrader.Stop()

	go func() {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
			if err := upgrader.Upgrade(); err != nil {
				log.Println("upgrade failed:", err)
			}
		}
	}()

	listener, err := upgrader.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, version)
	})}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()

	// Raw TCP: each line is answered with the version. Connections that are open when the process is replaced are waited for.
	raw, err := upgrader.Listen("tcp", "127.0.0.1:"+os.Getenv("TCP_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	var open sync.WaitGroup
	go func() {
		for {
			conn, err := raw.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			go func() {
				defer open.Done()
				defer conn.Close()
				answerLines(conn, version)
			}()
		}
	}()
	fmt.Println(os.Getpid())
	if err := upgrader.Ready(); err != nil {
		log.Fatal(err)
	}
	<-upgrader.Exit()

	timeout, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server.Shutdown(timeout)
	finished := make(chan struct{})
	go func() {
		open.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-timeout.Done():
	}
}

func answerLines(conn net.Conn, version string) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fmt.Fprintln(conn, version)
	}
}
