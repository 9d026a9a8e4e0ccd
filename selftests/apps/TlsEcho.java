// SPDX-License-Identifier: GPL-2.0-or-later
//
// A client of Java's own TLS for tls_clients.sh: one connection for each PORT:VERSION, all at the same time, each of
// which sends blocks of random bytes to a server that echoes, and compares. Java begins to use a new key each time
// when it has encrypted 2^20 bytes (KeyUpdate of TLS 1.3). It ends at the end of its input, and then prints a line for
// each connection: port, version, cipher, bytes, and "equal" or what has happened.
//
// usage: java TlsEcho.java CA.pem PORT:VERSION...

import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.security.KeyStore;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.Random;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

class TlsEcho extends Thread {
	static volatile boolean over;
	static SSLContext context;
	final int port;
	final String version;
	volatile long bytes;
	String cipher = "-", result = "equal";

	TlsEcho(String what) {
		String[] parts = what.split(":");
		port = Integer.parseInt(parts[0]);
		version = parts[1];
	}

	void echo() throws Exception {
		Socket tcp = new Socket("127.0.0.1", port);
		try (SSLSocket s = (SSLSocket) context.getSocketFactory().createSocket(tcp, "localhost", port, true)) {
			SSLParameters p = s.getSSLParameters();
			p.setProtocols(new String[] {version});
			p.setEndpointIdentificationAlgorithm("HTTPS");
			s.setSSLParameters(p);
			s.setSoTimeout(30000);
			s.startHandshake();
			cipher = s.getSession().getCipherSuite();
			OutputStream out = s.getOutputStream();
			DataInputStream in = new DataInputStream(s.getInputStream());
			Random random = new Random(port);
			while (!over) {
				byte[] sent = new byte[1 + random.nextInt(40000)], got = new byte[sent.length];
				random.nextBytes(sent);
				out.write(sent);
				in.readFully(got);
				if (!Arrays.equals(sent, got))
					throw new Exception("bytes are not equal");
				bytes += sent.length;
				Thread.sleep(10);
			}
		}
	}

	public void run() {
		try {
			echo();
		} catch (Exception e) {
			result = e.toString();
		}
	}

	public static void main(String[] args) throws Exception {
		Security.setProperty("jdk.tls.keyLimits",
			"AES/GCM/NoPadding KeyUpdate 2^20, ChaCha20-Poly1305 KeyUpdate 2^20");
		KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
		store.load(null);
		try (FileInputStream pem = new FileInputStream(args[0])) {
			store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
		}
		TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
		trust.init(store);
		context = SSLContext.getInstance("TLS");
		context.init(null, trust.getTrustManagers(), null);

		TlsEcho[] all = Arrays.stream(args).skip(1).map(TlsEcho::new).toArray(TlsEcho[]::new);
		for (TlsEcho one : all)
			one.start();
		while (System.in.read() >= 0)
			;
		over = true;
		for (TlsEcho one : all) {
			one.join();
			System.out.println(one.port + " " + one.version + " " + one.cipher + " " + one.bytes + " " + one.result);
		}
	}
}
